"""Management commands: what `sallyport tunnel` and `sallyport login` do through the /client/v4 API."""

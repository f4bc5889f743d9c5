"""A scripted first SSH login with real parts; also the workshop of the integration tests."""

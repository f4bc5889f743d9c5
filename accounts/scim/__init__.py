"""SCIM 2.0 (RFC 7643, RFC 7644) without Django: filters, patches, schemas, errors. Pure."""

from tests.access.token_keys import ready_made_token_keys

__all__ = ["ready_made_token_keys"]

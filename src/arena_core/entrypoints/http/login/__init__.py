"""How a client signs in: it gets a code (`oauth`), its user approves (`approval`)."""

from arena_core.entrypoints.http.login import approval, oauth, sign_ins

ENDPOINTS = (*oauth.ENDPOINTS, *approval.ENDPOINTS, *sign_ins.ENDPOINTS)

"""`arena-core demo`: train a small policy here, then freeze, connect and play it."""

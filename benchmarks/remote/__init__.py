"""Stores in an object store: a server that counts, and one module a library that asks."""

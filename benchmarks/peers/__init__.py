"""One module per store, all with the interface of `harness.Store`."""

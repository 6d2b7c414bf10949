"""The tests mirror gateway/ name for name; sim/ and chaos/ judge by one set of promises."""

"""The tests mirror gateway/ name for name; kit/ is shared, sim/ and chaos/ judge by the same promises."""

"""The test kit: fakes for time and chance only, and batteries shared between rooms."""

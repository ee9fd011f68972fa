"""One module each: the same work, as its own users would write it."""

"""Archives of events: where they are kept, what their manifest says, how their parts are written and read."""

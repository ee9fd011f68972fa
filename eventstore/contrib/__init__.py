"""At home in web frameworks. Each module needs its framework, which the extra of the same name brings."""

//! Empty: this package is its tests, which look at the project and not at what it does.

"""The aviary: a field guide of invented birds, its renderer, and two small models that have read it."""

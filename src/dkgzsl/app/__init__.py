"""A local page on which users try a trained model: `session` has its functions, `page` its controls."""

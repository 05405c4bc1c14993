"""The default method: class densities whose unseen prototypes are solved for."""

"""The published method, DKGZSL (IEEE TCSVT 2025): an adversarial generator guided by knowledge."""

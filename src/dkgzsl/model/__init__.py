"""The paper's blocks and the closed-form knowledge as pure modules: tensors in, tensors out."""

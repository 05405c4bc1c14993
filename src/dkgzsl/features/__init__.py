"""From images to region features: backbones, extraction, the feature store."""

"""From region features to one vector an image: poolings, and SOVR's FDE and ARA."""

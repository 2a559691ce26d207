"""What a network is and does, as tables and pictures."""

"""What is checked of every answer, as the settings have it."""

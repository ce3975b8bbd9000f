"""What every built-in source that speaks HTTP shares: its client, its credentials, its options."""

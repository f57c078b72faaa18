"""What a backup is once it lies in storage: its bytes, its manifest and the list of them."""

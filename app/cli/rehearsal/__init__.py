"""`windlass rehearse`: a plan carried out by the real engine where it can break nothing. See docs/howto/rehearse.md."""

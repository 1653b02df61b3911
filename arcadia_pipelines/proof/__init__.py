"""Whether a month is right: controls, audit, replay, explanation, rebuilding, differences between revisions."""

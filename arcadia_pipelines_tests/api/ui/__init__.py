"""The dashboard in a headless Chromium. `make test-ui` runs this folder, `make test` does not."""

"""SQL in and out, one module per concern; bound parameters only. The one room that talks to the database."""

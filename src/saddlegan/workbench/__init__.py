"""The application on top: data, figures, runs, report, command line."""

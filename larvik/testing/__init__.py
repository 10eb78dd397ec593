"""The test kit: contract suites, strategies and fixtures for projects that build on Larvik."""

"""The service on one machine: real servers from wheels, started and stopped by one small supervisor."""

"""PostgreSQL, Kafka, the schema registry and Kafka Connect on this machine, from wheels and jars alone."""

"""What every stage and command needs: errors, durable files, YAML, schemas, progress."""

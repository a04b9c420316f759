"""From records to a trained model file."""

"""What a trained model is worth: losses and bounds, latents, generated images, statistics."""

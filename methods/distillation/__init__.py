"""Self-distillation: a view predicts what a teacher or a twin makes of another view; no other image is told apart."""

"""Records -> one page that can be sent: verdicts, tables, figures, pictures, and each number's record. No torch."""

"""The procedures: each a plain function ``verb_noun(request, context) -> Result``."""

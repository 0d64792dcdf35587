"""Operations: values in, values out; nothing here prints, prompts, exits or formats."""

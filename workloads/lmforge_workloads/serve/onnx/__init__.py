"""The engine `onnxruntime`: an OpenAI-compatible server on onnxruntime-genai.

model       the directory: weights, tokenizer, chat template, what a token of context costs
requests    what a client may ask for; bad input gets OpenAI's words
generation  one answer being made, a step at a time: a piece of the prompt is read, or a token comes
stops       stop strings, which may begin in one token and end in another
scheduler   one thread that gives each running answer a step in turn; the others wait in line
answers     OpenAI's JSON, as a whole and as a stream
app, server, __main__    FastAPI, uvicorn with a drain, the command line
"""

if __name__ != "intsnn.bench":
    raise ImportError("import intsnn.bench, not bench")

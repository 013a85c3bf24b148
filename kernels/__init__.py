if __name__ != "intsnn.kernels":
    raise ImportError("import intsnn.kernels, not kernels")

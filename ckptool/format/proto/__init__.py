"""TensorFlow's messages in a package of our own: .proto files, and the code generated from them."""

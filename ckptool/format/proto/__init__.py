"""TensorFlow's messages in a package of our own: .proto files, and the code `make proto` generates from them."""

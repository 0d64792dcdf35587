"""How fast ckptool is: each job beside its peers and its limits, measured in turn (`make bench`)."""

"""Golden vectors: small problems with every number on the way to their answers, for whoever ports a recurrent layer."""

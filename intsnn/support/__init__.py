"""What does every room use? The version, faces of packages, streams, files written whole or not at all."""

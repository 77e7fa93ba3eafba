package erasure

// FS is the seam through which the log touches files.
type FS interface{}

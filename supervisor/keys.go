package supervisor

// Keys of log records.
const (
	keyDir    = "data_dir"
	keyPID    = "pid"
	keyPort   = "port"
	keyReason = "reason"
	keyError  = "error"
	keyWait   = "wait"
	keyStatus = "exit"
)

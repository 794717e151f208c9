#include "textflag.h"

// The signal handler; see relay_amd64.s.
TEXT ·relay(SB), NOSPLIT|NOFRAME, $0-0
	MOVD	RSP, R1
	SUB	$16, R1
	MOVD	R0, (R1)
	MOVW	·relayFD(SB), R0
	MOVD	$1, R2
	MOVD	$64, R8  // write
	SVC
	RET

TEXT ·restorer(SB), NOSPLIT|NOFRAME, $0-0
	MOVD	$139, R8 // rt_sigreturn
	SVC
	BRK

// func relayPC() uintptr
TEXT ·relayPC(SB), NOSPLIT, $0-8
	MOVD	$·relay(SB), R0
	MOVD	R0, ret+0(FP)
	RET

// func restorerPC() uintptr
TEXT ·restorerPC(SB), NOSPLIT, $0-8
	MOVD	$·restorer(SB), R0
	MOVD	R0, ret+0(FP)
	RET

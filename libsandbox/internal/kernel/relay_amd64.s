#include "textflag.h"

// The signal handler: it writes the signal's number, its first argument, to the
// pipe. It runs on the thread's signal stack, with all signals blocked, and uses
// nothing of Go's; the kernel restores every register afterwards. A full pipe
// loses the signal.
TEXT ·relay(SB), NOSPLIT|NOFRAME, $0-0
	MOVQ	DI, -16(SP)
	LEAQ	-16(SP), SI
	MOVL	·relayFD(SB), DI
	MOVL	$1, DX
	MOVL	$1, AX  // write
	SYSCALL
	RET

TEXT ·restorer(SB), NOSPLIT|NOFRAME, $0-0
	MOVL	$15, AX // rt_sigreturn
	SYSCALL
	INT	$3

// func relayPC() uintptr
TEXT ·relayPC(SB), NOSPLIT, $0-8
	LEAQ	·relay(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

// func restorerPC() uintptr
TEXT ·restorerPC(SB), NOSPLIT, $0-8
	LEAQ	·restorer(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

#include "textflag.h"

// The interpreter. It is never called here: its bytes are copied into the ELF,
// from its first instruction up to the marker behind its last one. It refers to
// no symbol, so it runs wherever it is put.
//
//   R12 current op     BX slots     0(SP)..40(SP) arguments     R15 retries left
//
// openat2 is repeated where it fails with EAGAIN: it does that for "..", which the
// symlinks of images have, when anybody renames or mounts anything at that moment
// (openat2(2), RESOLVE_IN_ROOT).
//
// An op is 64 bytes:
//    0 call   2 kinds, two bits an argument   4 result slot * 8
//    6 errno 1   8 errno 2   10 skip   12 skip 1   14 skip 2   16 arguments
TEXT ·interp(SB), NOSPLIT|NOFRAME, $0-0
	SUBQ	$2112, SP
	LEAQ	64(SP), BX
	MOVQ	$0x400400, R12
	MOVL	$0x100000, R15

next:
	MOVWLZX	2(R12), R13
	LEAQ	16(R12), R14
	XORL	CX, CX

arg:
	MOVQ	(R14)(CX*8), AX
	TESTL	$1, R13
	JEQ	notvalue
	MOVQ	(BX)(AX*1), AX

notvalue:
	TESTL	$2, R13
	JEQ	notaddress
	ADDQ	BX, AX

notaddress:
	MOVQ	AX, (SP)(CX*8)
	SHRL	$2, R13
	INCL	CX
	CMPL	CX, $6
	JLT	arg

	MOVQ	0(SP), DI
	MOVQ	8(SP), SI
	MOVQ	16(SP), DX
	MOVQ	24(SP), R10
	MOVQ	32(SP), R8
	MOVQ	40(SP), R9
	MOVWLZX	0(R12), AX
	CMPL	AX, $0xffff
	JEQ	test
	SYSCALL
	CMPQ	AX, $-11 // EAGAIN
	JNE	result
	MOVWLZX	0(R12), CX
	CMPL	CX, $437 // openat2
	JNE	result
	DECL	R15
	JNE	next

result:
	MOVWLZX	4(R12), CX
	MOVQ	AX, (BX)(CX*1)
	CMPQ	AX, $-4095
	JCC	failed
	MOVWLZX	10(R12), CX

skip:
	INCL	CX
	SHLL	$6, CX
	ADDQ	CX, R12
	JMP	next

failed:
	NEGL	AX
	MOVWLZX	6(R12), CX
	CMPL	AX, CX
	JNE	second
	MOVWLZX	12(R12), CX
	JMP	skip

second:
	MOVWLZX	8(R12), CX
	CMPL	AX, CX
	JNE	fault
	MOVWLZX	14(R12), CX
	JMP	skip

fault:
	SUBQ	$0x400400, R12
	SHRQ	$6, R12
	MOVL	R12, 0(SP)
	MOVL	AX, 4(SP)
	MOVQ	8(BX), DI
	MOVQ	SP, SI
	MOVL	$8, DX
	MOVL	$1, AX   // write
	SYSCALL
	MOVL	$1, DI
	MOVL	$231, AX // exit_group
	SYSCALL

test:
	ANDQ	SI, DI
	CMPQ	DI, DX
	JEQ	pass
	MOVQ	R8, AX
	NEGQ	AX
	JMP	result

pass:
	MOVQ	R10, AX
	JMP	result

	LONG	$0x2d6c6461 // "adl-"
	LONG	$0x00646e65 // "end"
	RET

// func interpPC() uintptr
TEXT ·interpPC(SB), NOSPLIT, $0-8
	LEAQ	·interp(SB), AX
	MOVQ	AX, ret+0(FP)
	RET

#include "textflag.h"

DATA adl_procs<>+0(SB)/8, $"GOMAXPRO"
DATA adl_procs<>+8(SB)/8, $"CS=1\x00\x00\x00\x00"
GLOBL adl_procs<>(SB), RODATA|NOPTR, $16

// adl_entry is as in entry_amd64.s.
TEXT adl_entry(SB), NOSPLIT|NOFRAME, $0
	MOVD  RSP, R0
	MOVD  R0, ·stack(SB)
	MOVD  ·Begin(SB), R26
	MOVD  (R26), R1
	CALL  (R1)
	MOVD  RSP, R0
	MOVD  (R0), R1
	ADD   $16, R0, R2
	ADD   R1<<3, R2, R2
	MOVD  adl_procs<>+0(SB), R3
	MOVWU adl_procs<>+8(SB), R4
	AND   $0xffffff, R4, R4

env:
	MOVD  (R2), R5
	CBZ   R5, end
	ADD   $8, R2
	MOVD  (R5), R6
	CMP   R3, R6
	BNE   env
	MOVWU 8(R5), R6
	AND   $0xffffff, R6, R6
	CMP   R4, R6
	BNE   env
	JMP   _rt0_arm64_linux(SB)

end:
	MOVD R2, R7
	ADD  $8, R2

aux:
	MOVD (R2), R5
	ADD  $16, R2
	CBNZ R5, aux
	SUB  R2, R0, R8
	ADD  R0, R8, R8
	SUB  $8, R8
	AND  $~15, R8
	MOVD R8, R9

head:
	MOVD.P 8(R0), R5
	MOVD.P R5, 8(R8)
	CMP    R7, R0
	BNE    head
	MOVD   $adl_procs<>(SB), R5
	MOVD.P R5, 8(R8)

tail:
	MOVD.P 8(R0), R5
	MOVD.P R5, 8(R8)
	CMP    R2, R0
	BNE    tail
	MOVD   R9, RSP
	JMP    _rt0_arm64_linux(SB)

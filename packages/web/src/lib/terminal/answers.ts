/** Attributes, status, position and sizes as ECMA-48 reports them, without the escape they begin with; settings and colours. */
const report = /^(\[[?>]?[\d;]*[cnRty]|\[[?]?[\d;]*\$y|[\]P])/;

/** Whether a terminal says this by itself, because a program asked it; nobody types it. */
export const isAnswer = (text: string): boolean => text.startsWith("\u001b") && report.test(text.slice(1));

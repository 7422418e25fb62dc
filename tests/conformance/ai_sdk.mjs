// node ai_sdk.mjs BASE_URL KEY MODEL WHAT  -- one use of @ai-sdk/deepseek; prints a JSON object.
import { createDeepSeek } from "@ai-sdk/deepseek";
import { generateText, streamText, tool } from "ai";
import { z } from "zod";

const [baseURL, apiKey, model, what] = process.argv.slice(2);
const deepseek = createDeepSeek({ baseURL, apiKey });
const base = { model: deepseek(model), prompt: "What is the capital of France?", maxRetries: 0, temperature: 0 };

const uses = {
  async text() {
    const { text, usage } = await generateText({ ...base, maxOutputTokens: 16 });
    return { text, usage };
  },
  async stream() {
    const whole = await generateText({ ...base, maxOutputTokens: 16 });
    let text = "";
    for await (const part of streamText({ ...base, maxOutputTokens: 16 }).textStream) text += part;
    return { same: text === whole.text };
  },
  async reasoning() {
    const { reasoningText } = await generateText({ ...base, maxOutputTokens: 16 });
    return { reasoning: reasoningText };
  },
  async unthinking() {
    const providerOptions = { deepseek: { thinking: { type: "disabled" } } };
    const { reasoningText, usage } = await generateText({ ...base, maxOutputTokens: 16, providerOptions });
    return { reasoning: reasoningText ?? "", usage };
  },
  async tool() {
    const getWeather = tool({ description: "Weather", inputSchema: z.object({ city: z.string().max(12) }) });
    const { toolCalls } = await generateText({ ...base, tools: { getWeather }, toolChoice: "required", maxOutputTokens: 250 });
    return { name: toolCalls[0].toolName, input: toolCalls[0].input };
  },
  async error() {
    try {
      await generateText(base);
    } catch (error) {
      return { status: error.statusCode, message: error.message };
    }
    return {};
  },
};
console.log(JSON.stringify(await uses[what]()));
